"""`docker compose up`: compose.yaml is generated from the image folders' labels; its own services run from here."""
