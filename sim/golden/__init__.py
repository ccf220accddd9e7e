"""Golden models: numpy only; they never see the hardware they judge."""
