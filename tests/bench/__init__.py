"""How fast is it? Programs behind `make bench` and its relatives; no tests."""
