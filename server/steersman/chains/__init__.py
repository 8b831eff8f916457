"""`steersman align`: asks a running server by chains of responses, and draws them."""
