"""What a notebook or a terminal shows. Views only read; a button calls a public function."""
