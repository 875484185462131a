// A library whose functions have names that glibc does not: of vectors of complex numbers, cfree; free_sized and free_aligned_sized of a pool of its own.
#include <stdio.h>
#include <stdlib.h>

struct complex_vector {
  int references;
  double* values;
};
static int live;

struct complex_vector* cnew(int count) {
  struct complex_vector* made = malloc(sizeof *made);
  made->values = malloc(count * 2 * sizeof(double));
  made->references = 2;
  live++;
  return made;
}

int cfree(struct complex_vector* vector) {
  if (--vector->references != 0) return vector->references;
  free(vector->values);
  free(vector);
  return --live;
}

double free_sized(double factor, int* pool, long a, long b, long c, long d, long e, long f, long g) {
  return factor * (*pool + a + 2 * b + 3 * c + 4 * d + 5 * e + 6 * f + 7 * g);
}

struct pair {
  double left, right;
};
struct pair free_aligned_sized(double left, double right) { return (struct pair){right, left}; }

// Before the shim's own constructor.
__attribute__((constructor)) static void early(void) {
  struct complex_vector* vector = cnew(3);
  printf("%d", cfree(vector));
  printf("%d\n", cfree(vector));
}
