package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/evdemo/evdemo/internal/postgrestest"
)

func TestMain(m *testing.M) {
	if os.Getenv("ACCOUNT_MAIN") != "" {
		main()
		return
	}
	goleak.VerifyTestMain(postgrestest.Main(m))
}

// program runs the program and gives what it prints.
func program(t *testing.T, db string, args ...string) (out, errs string, ok bool) {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-db", db}, args...)...)
	c.Env = append(os.Environ(), "ACCOUNT_MAIN=1")
	var stdout, stderr bytes.Buffer
	c.Stdout, c.Stderr = &stdout, &stderr
	err := c.Run()
	return stdout.String(), stderr.String(), err == nil
}

func databases(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"sqlite": filepath.Join(t.TempDir(), "accounts.db"), "postgres": postgrestest.URL(t)}
}

func TestAccount(t *testing.T) {
	t.Parallel()
	for name, db := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, step := range []struct{ command, out, errs string }{
				{"deposit ada 100", "account-ada: deposit 100, version 1\n", ""},
				{"withdraw ada 130", "", "account: account-ada has 100, and cannot give 130\n"},
				{"withdraw ada 30", "account-ada: withdraw 30, version 2\n", ""},
				{"deposit bob 90", "account-bob: deposit 90, version 1\n", ""},
				{"balance ada", "account-ada: 70 after 2 changes\n", ""},
				{"-as-of 2020-01-01T00:00:00Z balance ada", "account-ada: 0 after 0 changes\n", ""},
				{"top", "account-bob: 90, more than anybody else\n", ""},
				{"deposit ada 30", "account-ada: deposit 30, version 3\n", ""},
				{"top", "account-ada: 100, more than anybody else\n", ""},
			} {
				out, errs, ok := program(t, db, strings.Fields(step.command)...)
				require.Equal(t, step.out, out, step.command)
				require.Equal(t, step.errs, errs, step.command)
				require.Equal(t, step.errs == "", ok, step.command)
			}
		})
	}
}

// Programs that withdraw at the same moment never give more than there is.
func TestAccountNeverOverdrawn(t *testing.T) {
	t.Parallel()
	for name, db := range databases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, errs, ok := program(t, db, "deposit", "ada", "50")
			require.True(t, ok, errs)
			given := make(chan bool, 8)
			var group sync.WaitGroup
			for range cap(given) {
				group.Go(func() {
					_, _, ok := program(t, db, "withdraw", "ada", "10")
					given <- ok
				})
			}
			group.Wait()
			close(given)
			times := 0
			for ok := range given {
				if ok {
					times++
				}
			}
			assert.Equal(t, 5, times)
			out, _, _ := program(t, db, "balance", "ada")
			assert.Equal(t, "account-ada: 0 after 6 changes\n", out)
		})
	}
}
