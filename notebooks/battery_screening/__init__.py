"""The campaign of notebook 05: layered LiMO2 cathodes by voltage, with CHGNet and a person's pick."""
