"""One of everything that a package can add to vaebench; entry points name the modules."""
