package lxdimage

// Living is how many handles of the library are open.
func Living() int64 {
	return living.Load()
}
