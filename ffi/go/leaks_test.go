//go:build lsan

package lxdimage_test

import (
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"lxdimage"
	"lxdimage/internal/leaks"
)

// TestMain looks for memory that no call gave back, when all tests are done and what they forgot is closed. Memory that
// Go still knew would look the same, since the sanitizer does not look into Go's own: hence nothing may live.
func TestMain(m *testing.M) {
	status := m.Run()
	for start := time.Now(); lxdimage.Living() > 0 && time.Since(start) < time.Minute; {
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	if living := lxdimage.Living(); living > 0 {
		fmt.Println("handles that were never closed:", living)
		status = 1
	}
	if leaks.Found() {
		fmt.Println("memory was lost")
		status = 1
	}
	os.Exit(status)
}
