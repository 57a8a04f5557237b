"""What a distribution of plugins needs besides the contract: to be written, checked, and looked after."""
