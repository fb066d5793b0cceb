package topology

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// ParseDuration reads a duration as topology files write it: whole numbers with a unit out of
// ms, s, m, h and d, largest first where there are several ("500ms", "5s", "1m30s", "7d"). A
// number without a unit is refused, and so is anything negative.
func ParseDuration(s string) (time.Duration, error) {
	var total time.Duration
	last := time.Duration(math.MaxInt64)
	for rest := s; rest != "" || s == ""; {
		digits := rest[:len(rest)-len(strings.TrimLeft(rest, "0123456789"))]
		rest = rest[len(digits):]
		name := rest[:len(rest)-len(strings.TrimLeft(rest, "dhms"))]
		rest = rest[len(name):]
		unit := durationUnit(name)
		n, err := strconv.ParseInt(digits, 10, 64)
		switch {
		case errors.Is(err, strconv.ErrRange), err == nil && unit > 0 && n > int64(math.MaxInt64-total)/int64(unit):
			return 0, fmt.Errorf("duration %q is too long", s)
		case err != nil, unit == 0, unit >= last:
			return 0, fmt.Errorf("%q is not a duration: write a whole number and a unit, as in 500ms, 5s, 1m, 2h or 7d", s)
		}
		total, last = total+time.Duration(n)*unit, unit
	}
	return total, nil
}

// FormatDuration writes d as one whole number and the largest unit that divides it: 5s, 90s, 1m,
// 7d. Less than a millisecond is cut off. [ParseDuration] reads it back.
func FormatDuration(d time.Duration) string {
	if d < time.Millisecond {
		return "0s"
	}
	for _, unit := range []string{"d", "h", "m", "s"} {
		if size := durationUnit(unit); d%size == 0 {
			return strconv.FormatInt(int64(d/size), 10) + unit
		}
	}
	return strconv.FormatInt(d.Milliseconds(), 10) + "ms"
}

func durationUnit(name string) time.Duration {
	switch name {
	case "d":
		return day
	case "h":
		return time.Hour
	case "m":
		return time.Minute
	case "s":
		return time.Second
	case "ms":
		return time.Millisecond
	}
	return 0
}
