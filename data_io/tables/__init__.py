"""Read tables and other text files in any usual spelling, and format CSV."""
