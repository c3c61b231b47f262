"""Views for a notebook or a terminal. They only read; a button calls a public function."""
