"""From a source to a published, validated table."""
