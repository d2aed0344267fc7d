/* Runs the scanner's loop over a file of inputs, each behind its size, with memory of exactly the size that it is given
in Python. To be compiled with sanitizers, which end the program where it reads or writes anything else. */

#define SOURCE_CHECKSUM 0u
#include "../../logprob_store/decode/bulk/scan_loop.c"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SHORTEST_ROW = 24, COLUMNS = 8, VALUES = 16 };

static long scan(const uint8_t *input, int64_t size, int within) {
    int64_t length = size + 2, rows = length / SHORTEST_ROW + 2;
    uint8_t *text = calloc((size_t)length, 1), *buffer = calloc((size_t)(6 * length), 1);
    memcpy(text, input, (size_t)size);
    int64_t *tables[2], *ends[2], *summaries = calloc(VALUES * SUMMARY_WIDTH, 8);
    for (int kind = 0; kind < 2; kind++) {
        tables[kind] = calloc((size_t)(COLUMNS * rows), 8);
        ends[kind] = calloc(STRIDE + 1, 8);
        for (int column = 0; column < 3; column++)
            ends[kind][column] = tables[kind][column * rows] = (3 * kind + column) * length;
        ends[kind][STRIDE] = rows;
    }
    int64_t starts[1] = {0}, counts[5] = {1, within, within ? VALUES : 1, 0, 0};
    scan_all(text, starts, counts, buffer, tables[0], ends[0], tables[1], ends[1], summaries);
    long found = (long)(ends[0][ROW_COUNT] + ends[1][ROW_COUNT]);
    for (int kind = 0; kind < 2; kind++)
        for (int column = 0; column < 3; column++)
            if (ends[kind][column] > (3 * kind + column + 1) * length) abort(); /* into the next one's memory */
    for (int kind = 0; kind < 2; kind++) free(tables[kind]), free(ends[kind]);
    free(text), free(buffer), free(summaries);
    return found;
}

int main(int count, char **names) {
    FILE *file = count == 2 ? fopen(names[1], "rb") : NULL;
    if (file == NULL) return 2;
    uint32_t size;
    long inputs = 0, rows = 0;
    while (fread(&size, sizeof size, 1, file) == 1) {
        uint8_t *input = malloc(size + 1);
        if (fread(input, 1, size, file) != size) return 3;
        rows += scan(input, size, 0) + scan(input, size, 1);
        free(input);
        inputs++;
    }
    fclose(file);
    printf("%ld inputs, %ld rows\n", inputs, rows);
    return 0;
}
