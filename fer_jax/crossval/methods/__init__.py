"""The methods of cross-validation, one file each; the attribute METHOD of a file is the class."""
