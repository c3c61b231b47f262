"""Notices on their way: whom they go to, the files that wait to be sent, and the program that sends one, once."""
