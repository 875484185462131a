// Calls functions of a library's own (own_cfree.c), by names of the shim's.
#include <stdio.h>

struct complex_vector;
struct complex_vector* cnew(int count);
int cfree(struct complex_vector*);
double own_free_sized(double, int*, long, long, long, long, long, long, long) __asm__("free_sized");
struct pair {
  double left, right;
};
struct pair own_free_aligned_sized(double, double) __asm__("free_aligned_sized");

int main(void) {
  for (int i = 0; i < 100; i++) {
    struct complex_vector* vector = cnew(10);
    if (cfree(vector) != 1 || cfree(vector) != 0) return 1;
  }
  int pool = 1;
  printf("%g\n", own_free_sized(0.5, &pool, 1, 2, 3, 4, 5, 6, 7));
  struct pair turned = own_free_aligned_sized(0.25, 0.75);
  printf("%g %g\n", turned.left, turned.right);
  return 0;
}
