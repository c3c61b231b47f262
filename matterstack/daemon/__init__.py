"""A daemon that steps all runs of workspaces: it only looks, and has processes of their own step what can go on."""
