//go:build lsan

// Package leaks asks AddressSanitizer what memory of C nobody knows any more. For this module's own tests: go test -asan
// -tags lsan. (Go's own -asan does not ask when a program ends.)
package leaks

// #include <sanitizer/lsan_interface.h>
import "C"

// Found says whether there are leaks, after printing them.
func Found() bool {
	return C.__lsan_do_recoverable_leak_check() != 0
}
