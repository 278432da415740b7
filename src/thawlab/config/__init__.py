"""What is asked for, typed: settings, jobs, timm's names; imports nothing else of thawlab and nothing heavy."""
