"""What the report and the explorer share: completions as JSON, the script that draws them, the style."""
