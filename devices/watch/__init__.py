"""Looking at devices from afar, and giving them orders: what the window and the web page have in common. No Qt."""
