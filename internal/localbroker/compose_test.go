package localbroker

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/stretchr/testify/require"
)

// compose is what docker-compose.yml may say: the part of the Compose format that we use, in its
// form at https://docs.docker.com/reference/compose-file/. Everything else is a mistake.
type compose struct {
	Name     string                    `yaml:"name"`
	Services map[string]composeService `yaml:"services"`
	Volumes  map[string]*struct{}      `yaml:"volumes"`
}

type composeService struct {
	Image       string   `yaml:"image"`
	Hostname    string   `yaml:"hostname"`
	Ports       []string `yaml:"ports"`
	Volumes     []string `yaml:"volumes"`
	Healthcheck struct {
		Test        []string `yaml:"test"`
		Interval    string   `yaml:"interval"`
		Timeout     string   `yaml:"timeout"`
		Retries     int      `yaml:"retries"`
		StartPeriod string   `yaml:"start_period"`
	} `yaml:"healthcheck"`
}

const composeFile = "../../docker-compose.yml"

func TestComposeFile(t *testing.T) {
	t.Parallel()
	var file compose
	require.NoError(t, yaml.UnmarshalWithOptions([]byte(readFile(t, composeFile)), &file, yaml.Strict()))
	require.Regexp(t, `^[a-z0-9][a-z0-9_-]*$`, file.Name)
	require.Len(t, file.Services, 1)
	rabbitmq := file.Services["rabbitmq"]
	require.Equal(t, "rabbitmq:4-management", rabbitmq.Image)
	require.NotEmpty(t, rabbitmq.Hostname, "RabbitMQ keeps its data under the host's name, which Docker would choose anew")

	// The URL that every command uses by default, and loopback only.
	require.ElementsMatch(t, []string{"127.0.0.1:5672:5672", "127.0.0.1:15672:15672"}, rabbitmq.Ports)

	require.Len(t, rabbitmq.Volumes, 1)
	volume, target, _ := strings.Cut(rabbitmq.Volumes[0], ":")
	require.Contains(t, file.Volumes, volume, "the volume is declared")
	require.Len(t, file.Volumes, 1, "and no other")
	require.Equal(t, "/var/lib/rabbitmq", target)

	health := rabbitmq.Healthcheck
	require.Equal(t, []string{"CMD", "rabbitmq-diagnostics"}, health.Test[:2], "without a shell")
	require.Positive(t, health.Retries)
	for _, duration := range []string{health.Interval, health.Timeout, health.StartPeriod} {
		d, err := time.ParseDuration(duration)
		require.NoError(t, err)
		require.Positive(t, d)
	}
}

// TestComposeFileForDocker asks Docker's own parser, which needs no engine, where there is one.
func TestComposeFileForDocker(t *testing.T) {
	t.Parallel()
	ctx := testContext(t)
	if err := exec.CommandContext(ctx, "docker", "compose", "version").Run(); err != nil {
		t.Skip("no docker compose here to ask; TestComposeFile holds the file to the format without it")
	}
	out, err := dockerConfig(ctx, composeFile)
	require.NoError(t, err, out)

	broken := filepath.Join(t.TempDir(), "docker-compose.yml")
	require.NoError(t, os.WriteFile(broken, []byte(readFile(t, composeFile)+"unknown: true\n"), 0o600))
	_, err = dockerConfig(ctx, broken)
	require.Error(t, err, "Docker would say so")
}

func dockerConfig(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, "docker", "compose", "--file", path, "config", "--quiet").CombinedOutput()
	return string(out), err
}
