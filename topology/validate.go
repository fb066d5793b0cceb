package topology

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// maxRetryDelay is the longest message TTL that RabbitMQ takes: 32 bits of milliseconds.
const maxRetryDelay = math.MaxUint32 * time.Millisecond

// minLogSize keeps segments at a size that a broker can keep up with.
const minLogSize = 1_000_000

// Validate says whether the topology can be: nil, or an [*InvalidError] with all its mistakes.
// [Parse] calls it.
func (s Spec) Validate() error {
	return invalid(s.mistakes())
}

// Validate says whether all names can be: nil, or an [*InvalidError]. Whatever sends resources to
// a broker calls it first.
func (r Resources) Validate() error {
	var mistakes []Mistake
	check := func(kind Kind, name, message string) {
		if message != "" {
			mistakes = append(mistakes, Mistake{Path: string(kind) + " " + name, Message: message})
		}
	}
	for _, exchange := range r.Exchanges {
		check(KindExchange, exchange.Name, nameMistake(exchange.Name, 0))
	}
	for _, queue := range r.Queues {
		message := nameMistake(queue.Name, 0)
		if message == "" && queue.Role == RoleWork {
			message = reservedMistake(queue.Name)
		}
		check(KindQueue, queue.Name, message)
	}
	return invalid(mistakes)
}

func invalid(mistakes []Mistake) error {
	if len(mistakes) == 0 {
		return nil
	}
	return &InvalidError{Mistakes: mistakes}
}

// mistakes of the topology, without positions, ordered by path.
func (s Spec) mistakes() []Mistake {
	c := checker{spec: s, claims: map[string]claim{}}
	for _, name := range s.topicNames() {
		c.topic(name)
	}
	for _, name := range slices.Sorted(maps.Keys(s.Queues)) {
		c.queue(name)
	}
	for _, name := range s.workQueues() {
		c.derived(name)
	}
	return c.mistakes
}

// claim is one use of a queue's name.
type claim struct {
	// use is what the name is used for: "the dead-letter queue of payments". Two equal uses of
	// one name are the same thing said twice.
	use, path string
}

type checker struct {
	spec     Spec
	claims   map[string]claim
	mistakes []Mistake
}

func (c *checker) report(path, format string, args ...any) {
	c.mistakes = append(c.mistakes, Mistake{Path: path, Message: fmt.Sprintf(format, args...)})
}

// claim takes a queue name for one use and reports it if it has another one already.
func (c *checker) claim(name, use, path string) {
	taken, ok := c.claims[name]
	if !ok {
		c.claims[name] = claim{use: use, path: path}
		return
	}
	if taken.use != use {
		c.report(path, "%s would be the queue %q, and so would %s", use, name, taken.use)
	}
}

func (c *checker) topic(name string) {
	path := topicPath(name)
	topic := c.spec.Topics[name]
	if message := nameMistake(name, len(logSuffix)); message != "" {
		c.report(path, "topic %s", message)
	}
	if name == c.spec.Events() {
		c.report(path, "no topic may be called %q: it is the exchange that sees the events of all topics", name)
	}
	c.claim(LogStream(name), "the log of topic "+name, path)
	if topic.Log != nil {
		c.log(path+".log", *topic.Log)
	}
	c.groups(name, topic)
	seen := map[string]bool{}
	for i, queue := range topic.Queues {
		at := fmt.Sprintf("%s.queues[%d]", path, i)
		if seen[queue] {
			c.report(at, "queue %q is listed twice", queue)
			continue
		}
		seen[queue] = true
		if _, listed := c.spec.Queues[queue]; !listed {
			c.queueName(queue, at)
		}
		c.claim(queue, "queue "+queue, at)
	}
}

func (c *checker) groups(topicName string, topic Topic) {
	seen := map[string]bool{}
	for i, group := range topic.Groups {
		at := fmt.Sprintf("%s.groups[%d]", topicPath(topicName), i)
		queue := GroupQueue(topicName, group)
		switch {
		case seen[group]:
			c.report(at, "group %q is listed twice", group)
			continue
		case group == "":
			c.report(at, "group has no name")
			continue
		}
		seen[group] = true
		c.queueName(queue, at)
		c.claim(queue, "group "+group+" of topic "+topicName, at)
	}
}

func (c *checker) queueName(name, path string) {
	message := nameMistake(name, c.longestSuffix(name))
	if message == "" {
		message = reservedMistake(name)
	}
	if message != "" {
		c.report(path, "queue %s", message)
	}
}

// longestSuffix is what the longest name made from the queue's has more than it.
func (c *checker) longestSuffix(queue string) int {
	longest := len(deadLetterSuffix)
	for _, delay := range c.spec.Queue(queue).Retry {
		longest = max(longest, len(RetryTier("", delay)))
	}
	return longest
}

func (c *checker) log(path string, log Log) {
	if log.MaxAge < 0 || log.MaxAge%time.Second != 0 {
		c.report(path+".max-age", "the age is %v; a log counts it in whole seconds, one at the least", log.MaxAge)
	}
	if log.MaxSize < 0 || log.MaxSize > 0 && log.MaxSize < minLogSize {
		c.report(path+".max-size", "the size is %s; a log has %s at the least", FormatSize(log.MaxSize), FormatSize(minLogSize))
	}
}

func (c *checker) queue(name string) {
	path := queuePath(name)
	queue := c.spec.Queues[name]
	c.queueName(name, path)
	if !strings.HasPrefix(c.claims[name].use, "group ") { // of a group these are the settings
		c.claim(name, "queue "+name, path)
	}
	for i, delay := range queue.Retry {
		at := fmt.Sprintf("%s.retry[%d]", path, i)
		switch {
		case delay < time.Millisecond || delay%time.Millisecond != 0:
			c.report(at, "the delay is %v; delays are whole milliseconds, one at the least", delay)
		case delay > maxRetryDelay:
			c.report(at, "the delay is %s; the broker keeps an event 49 days at the most", FormatDuration(delay))
		}
	}
	if queue.MaxAttempts < 0 {
		c.report(path+".max-attempts", "there are %d attempts; there must be one at the least", queue.MaxAttempts)
	}
}

// derived claims the names that are made from a work queue's.
func (c *checker) derived(name string) {
	path := c.claims[name].path
	c.claim(DeadLetterQueue(name), "the dead-letter queue of "+name, path)
	for _, delay := range c.spec.Queue(name).Retry {
		c.claim(RetryTier(name, delay), "a retry tier of "+name, path)
	}
}

func topicPath(name string) string { return memberPath("topics", name) }

func queuePath(name string) string { return memberPath("queues", name) }

// memberPath quotes a name with a dot or a bracket in it, so that no two members share a path.
func memberPath(path, name string) string {
	switch {
	case path == "":
		return name
	case name == "" || strings.ContainsAny(name, `.[]"`):
		return fmt.Sprintf("%s[%q]", path, name)
	}
	return path + "." + name
}

// nameMistake says why name cannot be that of an exchange or queue, or "". Names made from it
// are up to suffix bytes longer.
func nameMistake(name string, suffix int) string {
	switch {
	case name == "":
		return "has no name"
	case strings.HasPrefix(name, "amq."):
		return fmt.Sprintf("%q: names that begin with \"amq.\" are the broker's own", name)
	case len(name)+suffix > maxNameBytes && suffix > 0:
		return fmt.Sprintf("%q: the name has %d bytes and may have %d, for the names made from it to fit in 255",
			name, len(name), maxNameBytes-suffix)
	case len(name) > maxNameBytes:
		return fmt.Sprintf("%q: the name has %d bytes and may have %d", name, len(name), maxNameBytes)
	case !utf8.ValidString(name):
		return fmt.Sprintf("%q: the name is not UTF-8", name)
	case strings.TrimSpace(name) != name:
		return fmt.Sprintf("%q: the name begins or ends with a space", name)
	case strings.ContainsFunc(name, unicode.IsControl):
		return fmt.Sprintf("%q: the name has a control character in it", name)
	}
	return ""
}

// reservedMistake says why name cannot be that of a work queue, or "". The names of dead-letter
// queues and retry tiers belong to another queue, whether or not that queue is known here.
func reservedMistake(name string) string {
	if strings.HasSuffix(name, deadLetterSuffix) {
		return fmt.Sprintf("%q: names that end in %q are those of dead-letter queues", name, deadLetterSuffix)
	}
	if i := strings.LastIndex(name, retryInfix); i >= 0 {
		if d, err := ParseDuration(name[i+len(retryInfix):]); err == nil && RetryTier(name[:i], d) == name {
			return fmt.Sprintf("%q: that is the name of a retry tier of queue %q", name, name[:i])
		}
	}
	return ""
}
