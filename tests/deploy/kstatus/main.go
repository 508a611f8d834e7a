package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/cli-utils/pkg/kstatus/status"
)

// One JSON object a line in; what kstatus says of it, a line each, out.
func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(make([]byte, 1<<20), 1<<24)
	for lines.Scan() {
		item := &unstructured.Unstructured{}
		if err := item.UnmarshalJSON(lines.Bytes()); err != nil {
			fmt.Println("unreadable")
			continue
		}
		result, err := status.Compute(item)
		said := "error"
		if err == nil {
			said = string(result.Status)
		}
		out, _ := json.Marshal(said)
		fmt.Println(string(out))
	}
}
