"""Who this gateway is towards the Cloud: bundles, where they are kept, how they are got, renewed and put in force."""
