"""What the panel and the widget show: lists in parts, previews, and what can be done about it."""
