"""Results of a table: cells, differences that survive, files of results, text for a terminal."""
