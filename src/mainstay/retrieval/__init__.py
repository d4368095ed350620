"""Finding: filters from the question, words and meaning together inside a Scope, variety, and the last look at the truth."""
