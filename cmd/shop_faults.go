package cmd

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/evdemo/evdemo/internal/shop/system"
)

// faultOptions are the flags that break parts of a shop on purpose.
type faultOptions struct {
	slow, fail, refuse map[string]string
	down               []string
	seed               uint64

	faults system.Faults // from all but down
}

func (o *faultOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringToStringVar(&o.slow, "slow", nil, "how much longer a part takes each time: payment=2s")
	flags.StringToStringVar(&o.fail, "fail", nil, "which part of the attempts fail, and are made again: payment=0.2")
	flags.StringToStringVar(&o.refuse, "refuse", nil, "which part of the orders a service refuses for good: payment=0.05")
	flags.StringSliceVar(&o.down, "down", nil, "parts that do not run")
	flags.Uint64Var(&o.seed, "seed", 1, "seed of --fail and --refuse")
}

// check reads the flags. Whether there are such parts is known later.
func (o *faultOptions) check() error {
	o.faults = system.Faults{Seed: o.seed}
	var faults [3]error
	o.faults.Slow, faults[0] = perPart("--slow", o.slow, "a duration, as in payment=2s", func(s string) (time.Duration, bool) {
		d, err := time.ParseDuration(s)
		return d, err == nil && d >= 0
	})
	o.faults.Fail, faults[1] = perPart("--fail", o.fail, "a fraction from 0 to 1, as in payment=0.2", fraction)
	o.faults.Refuse, faults[2] = perPart("--refuse", o.refuse, "a fraction from 0 to 1, as in payment=0.2", fraction)
	return errors.Join(faults[:]...)
}

func fraction(s string) (float64, bool) {
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && f >= 0 && f <= 1
}

// perPart reads PART=VALUE.
func perPart[V any](flag string, texts map[string]string, want string, parse func(string) (V, bool)) (map[string]V, error) {
	values := make(map[string]V, len(texts))
	for _, name := range slices.Sorted(maps.Keys(texts)) {
		v, ok := parse(strings.TrimSpace(texts[name]))
		if !ok {
			return nil, fmt.Errorf("%s %s=%.20q: want %s", flag, name, texts[name], want)
		}
		values[name] = v
	}
	return values, nil
}
