"""The laboratory of notebook 06: blends for solar cells, an instrument that answers late and sometimes fails."""
