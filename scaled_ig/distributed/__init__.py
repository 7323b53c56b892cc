"""Who owns which scene, what ranks agree on, and how many cores a process may use."""
