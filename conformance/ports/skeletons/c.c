/* A port as a process: cc -o port port.c -lm && ./port
 *
 * `python -m conformance run --backend "exec:./port" --model v11` judges it.
 * Write the methods of a stage and add their names to METHODS; docs/porting.md describes each.
 * A JSON library is advisable; this skeleton finds values by their keys. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define METHODS "[\"prefill_one\", \"step_one\", \"decode_one\"]"

/* The text after `"key":` in a message, or NULL. */
static const char *find(const char *json, const char *key)
{
    char quoted[64];
    snprintf(quoted, sizeof quoted, "\"%s\":", key);
    const char *at = strstr(json, quoted);
    return at ? at + strlen(quoted) + strspn(at + strlen(quoted), " ") : NULL;
}

static int is(const char *method, const char *name)
{
    size_t length = strlen(name);
    return method && !strncmp(method + 1, name, length) && method[1 + length] == '"';
}

static void answer(const char *line, long id)
{
    const char *method = find(line, "method");
    printf("{\"id\": %ld, ", id);
    if (is(method, "hello"))
        printf("\"result\": {\"protocol\": 1, \"name\": \"my-port\", \"version\": \"0.1\", "
               "\"methods\": " METHODS "}");
    else if (is(method, "prefill_one")) /* "ids" -> "logits" (V,), "hidden" (H,), "state" */
        printf("\"error\": {\"message\": \"prefill_one is not written yet\"}");
    else if (is(method, "step_one")) /* "id", "state" -> the same */
        printf("\"error\": {\"message\": \"step_one is not written yet\"}");
    else if (is(method, "decode_one")) /* "hidden" (T, H) -> "spectrum" (F, T', 2) */
        printf("\"error\": {\"message\": \"decode_one is not written yet\"}");
    else
        printf("\"error\": {\"message\": \"unknown method\"}");
    printf("}\n");
    fflush(stdout);
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        /* A notification ("release", "cancel") has no id and no answer. */
        if (!strncmp(line, "{\"id\"", 5)) answer(line, strtol(find(line, "id"), NULL, 10));
    }
    return 0;
}
