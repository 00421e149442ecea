"""NSML: the platform of the 2018 hackathon, or a stand-in that runs its contract today."""
