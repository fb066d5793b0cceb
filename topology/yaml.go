package topology

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// YAML is the topology in the form that [Parse] reads, in the order of the names, without what is
// the default. The prefix of [Spec.WithPrefix] is a key of its own, and the names are without it.
func (s Spec) YAML() []byte {
	var b bytes.Buffer
	if s.prefix != "" {
		fmt.Fprintf(&b, "prefix: %s\n", yamlText(s.prefix))
	}
	if len(s.Topics) > 0 {
		b.WriteString("topics:\n")
	}
	for _, name := range s.topicNames() {
		s.writeTopic(&b, name)
	}
	if len(s.Queues) > 0 {
		b.WriteString("queues:\n")
	}
	for _, name := range slices.Sorted(maps.Keys(s.Queues)) {
		s.writeQueue(&b, name)
	}
	return b.Bytes()
}

// local writes a name as the file has it, without the prefix.
func (s Spec) local(name string) string { return yamlText(strings.TrimPrefix(name, s.prefix)) }

func (s Spec) writeTopic(b *bytes.Buffer, name string) {
	topic := s.Topics[name]
	fmt.Fprintf(b, "  %s:\n", s.local(name))
	if topic.Log != nil {
		log := topic.Log.withDefaults()
		if log == (Log{}).withDefaults() {
			b.WriteString("    log: true\n")
		} else {
			fmt.Fprintf(b, "    log: {max-age: %s, max-size: %s}\n", FormatDuration(log.MaxAge), FormatSize(log.MaxSize))
		}
	}
	if len(topic.Groups) > 0 {
		fmt.Fprintf(b, "    groups: %s\n", yamlList(topic.Groups, yamlText))
	}
	if len(topic.Queues) > 0 {
		fmt.Fprintf(b, "    queues: %s\n", yamlList(topic.Queues, s.local))
	}
}

func (s Spec) writeQueue(b *bytes.Buffer, name string) {
	queue := s.Queues[name]
	fmt.Fprintf(b, "  %s:\n", s.local(name))
	if queue.Retry != nil {
		delay := func(d time.Duration) string { return FormatDuration(d) }
		fmt.Fprintf(b, "    retry: %s\n", yamlList(queue.Retry, delay))
	}
	if queue.MaxAttempts != 0 {
		fmt.Fprintf(b, "    max-attempts: %d\n", queue.MaxAttempts)
	}
	if queue.SingleActive {
		b.WriteString("    single-active: true\n")
	}
}

func yamlList[T any](items []T, format func(T) string) string {
	texts := make([]string, 0, len(items))
	for _, item := range items {
		texts = append(texts, format(item))
	}
	return "[" + strings.Join(texts, ", ") + "]"
}

// plainYAML is text that YAML takes for text without quotes, and for nothing else.
var plainYAML = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)

// yamlText quotes what YAML might take for something other than text.
func yamlText(s string) string {
	switch strings.ToLower(s) {
	case "true", "false", "yes", "no", "on", "off", "y", "n", "null", "nan", "inf":
	default:
		if plainYAML.MatchString(s) {
			return s
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b) // a JSON string is a YAML string
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(s); err != nil {
		return s
	}
	return strings.TrimSuffix(b.String(), "\n")
}
