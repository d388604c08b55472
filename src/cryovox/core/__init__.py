"""Ground floor: data types and what all stages agree on; numpy only."""
