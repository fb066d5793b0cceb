package topology

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// ParseSize reads a number of bytes as topology files write it: a whole number, alone or with a
// unit out of B, kB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024).
func ParseSize(s string) (int64, error) {
	digits := s[:len(s)-len(strings.TrimLeft(s, "0123456789"))]
	unit := sizeUnit(strings.TrimSpace(s[len(digits):]))
	n, err := strconv.ParseInt(digits, 10, 64)
	if digits == "" || unit == 0 {
		return 0, fmt.Errorf("%q is not a size: write a whole number of bytes or a number and a unit, as in 500MB or 1GB", s)
	}
	if err != nil || n > math.MaxInt64/unit {
		return 0, fmt.Errorf("size %q is too large", s)
	}
	return n * unit, nil
}

// FormatSize writes a number of bytes with the largest decimal unit that divides it: 1GB, 1500MB,
// 1073741824. [ParseSize] reads it back.
func FormatSize(n int64) string {
	for _, unit := range []string{"TB", "GB", "MB", "kB"} {
		if size := sizeUnit(unit); n != 0 && n%size == 0 {
			return strconv.FormatInt(n/size, 10) + unit
		}
	}
	return strconv.FormatInt(n, 10)
}

func sizeUnit(name string) int64 {
	switch name {
	case "", "B":
		return 1
	case "kB", "KB":
		return 1e3
	case "MB":
		return 1e6
	case "GB":
		return 1e9
	case "TB":
		return 1e12
	case "KiB":
		return 1 << 10
	case "MiB":
		return 1 << 20
	case "GiB":
		return 1 << 30
	case "TiB":
		return 1 << 40
	}
	return 0
}
