"""g++ on a file full of templates: the driver, cc1plus (100 000 stacks and more), as and ld."""
import os

import real

SOURCE = r"""
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <string>
#include <tuple>
#include <unordered_map>
#include <variant>
#include <vector>
template <int N> struct Chain { Chain<N - 1> inner; template <class F> auto apply(F f) { return f(N) + inner.apply(f); } };
template <> struct Chain<0> { template <class F> auto apply(F) { return 0L; } };
template <class... T> struct Many { std::tuple<std::vector<T>...> all; std::map<std::string, std::variant<T...>> named; };
int main() {
  Chain<200> chain;
  Many<int, long, double, std::string, std::shared_ptr<int>> many;
  many.named["x"] = std::string("text");
  std::regex words("([a-z]+)([0-9]*)");
  std::smatch found;
  std::string text = "abc123";
  std::regex_match(text, found, words);
  std::cout << chain.apply([](int n) { return long(n) * 2; }) << ' ' << found[1] << ' ' << many.named.size() << '\n';
}
"""


class Compiler(real.RealProgram):
    NEEDS = ("g++",)
    TOP = 1000   # of 125 000: all of them would be two gigabytes of JSON

    def load(self, launcher):
        folder = self.new_folder()
        with open(os.path.join(folder, "t.cpp"), "w") as file:
            file.write(SOURCE)
        compiled = launcher.run(["g++", "-std=c++20", "-O1", "-g", "-frandom-seed=1", "t.cpp", "-o", "t"], cwd=folder)
        with open(os.path.join(folder, "t"), "rb") as file:
            program = file.read()
        return (*compiled, len(program), launcher.run([os.path.join(folder, "t")]))

    def test_templates(self):
        # cc1plus has far more stacks than the 16 MiB of a child's region hold: give it room, and see that it is used.
        reports = self.both(self.load, {"child_region_size": "256M"})
        self.assert_sensible(self.of(reports, "cc1plus")[0], allocations=1_000_000)

    def test_full_stack_table(self):
        """In a small region what finds no room is counted as one site, and the totals stay exact."""
        reports = self.both(self.load, {"child_region_size": "2M"})
        report = self.of(reports, "cc1plus")[0]
        self.assertEqual([], report.contradictions())
        self.assertGreater(report.coverage["overflow_allocations"], 1000)
        self.assertGreater(report.totals["allocated_count"], 1_000_000)
