"""Reports: what an event log tells of hours, days and weeks."""
