"""What watches over all tests."""
