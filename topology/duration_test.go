package topology_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/evdemo/evdemo/topology"
)

func TestParseDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"500ms": 500 * time.Millisecond, "5s": 5 * time.Second, "1m30s": 90 * time.Second, "2h": 2 * time.Hour,
		"7d": 7 * 24 * time.Hour, "1d12h": 36 * time.Hour, "0s": 0, "1s500ms": 1500 * time.Millisecond,
		"106751d": 106751 * 24 * time.Hour,
	} {
		got, err := topology.ParseDuration(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "5", "s", "-5s", "1.5s", "5 s", "5x", "5S", "30s1m", "1s1s", "5mm", "5s ", "٥s"} {
		_, err := topology.ParseDuration(text)
		require.ErrorContains(t, err, "is not a duration: write a whole number and a unit", text)
	}
	for _, text := range []string{"106752d", "106751d24h", "99999999999999999999s"} {
		_, err := topology.ParseDuration(text)
		require.ErrorContains(t, err, "is too long", text)
	}
}

func TestFormatDurationIsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := time.Duration(rapid.Int64Range(0, 9_000_000_000_000).Draw(t, "ms")) * time.Millisecond
		got, err := topology.ParseDuration(topology.FormatDuration(d))
		require.NoError(t, err)
		require.Equal(t, d, got)
	})
	assert.Equal(t, "1ms", topology.FormatDuration(1900*time.Microsecond), "less than a millisecond is cut off")
}

func TestParseSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{
		"0": 0, "5000000": 5_000_000, "7B": 7, "500MB": 500_000_000, "1GB": 1_000_000_000, "2 TB": 2_000_000_000_000,
		"3kB": 3000, "3KB": 3000, "1KiB": 1024, "1MiB": 1 << 20, "2GiB": 2 << 30, "1TiB": 1 << 40,
	} {
		got, err := topology.ParseSize(text)
		require.NoError(t, err, text)
		assert.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "GB", "-1", "1.5GB", "1gb", "1PB", "1 G B"} {
		_, err := topology.ParseSize(text)
		require.ErrorContains(t, err, "is not a size: write a whole number", text)
	}
	for _, text := range []string{"9223372036854775808", "9223373TB"} {
		_, err := topology.ParseSize(text)
		require.ErrorContains(t, err, "is too large", text)
	}
}

func TestFormatSizeIsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.Int64Min(0).Draw(t, "bytes")
		got, err := topology.ParseSize(topology.FormatSize(n))
		require.NoError(t, err)
		require.Equal(t, n, got)
	})
	assert.Equal(t, "1500MB", topology.FormatSize(1_500_000_000))
}
