"""Reviews: readers of dumps, filters, and rating-stratified sampling."""
