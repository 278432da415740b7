"""Which plots a comparison has, their data, and two back-ends that draw them; imported by `report`."""
