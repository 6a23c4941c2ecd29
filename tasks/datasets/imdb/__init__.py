"""Film reviews, labelled positive or negative."""
