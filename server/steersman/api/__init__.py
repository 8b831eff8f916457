"""The HTTP side: where `control` enters and the receipt leaves."""
