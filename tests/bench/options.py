"""What scripts/bench was asked for, checked before anything is measured: one line says what is wrong with it, and the status is 2."""
import argparse
import fcntl
import math
import os

import tools
from servers import SERVERS
from workloads import BATCH

JSON = """The JSON: MB are 2^20 bytes, CPU is user + system, a value that was not measured is null.
  rounds, scale           as asked for
  complete                false: the series was ended, and this is what it had finished
  workloads               a row for each workload under each tool, without those that failed in every round:
    workload, tool
    unit                  what one unit of work is; "run" is the whole program
    runs                  how many did not fail
    cpu_ms_per_unit       ms, median of runs; of servers during the load only
    cpu_ratio             median of cpu_ratios
    cpu_ratios            CPU a unit divided by glibc's of the same round, one a round
    rate_ratio            median of rate_ratios
    rate_ratios           the same of units done a second of wall time
    cpu_ratios_to_other   only with --other, of tidemark: CPU a unit divided by the other build's, one a round
    rss_mb                MB, highest resident memory of the process; median of runs
    rss_mb_lowest, rss_mb_highest
                          MB, of runs
    rss_ratio             to glibc, median of rounds
    written_mb            MB the process wrote to disk, pages of mapped files too; median of runs
    written_mb_lowest, written_mb_highest
                          MB, of runs
    left_mb               MB of files the tool left, median of runs
    helper_cpu_s          s of CPU of the tool's other processes, median of runs
    helper_rss_mb         MB, the same for their memory
  micro                   a row for each micro-benchmark under each tool:
    build                 micro, or micro_fp: compiled with frame pointers
    name, tool
    ns                    ns of wall time an iteration, a pair of malloc and free; median of rounds
    lowest, highest       ns, of rounds
    over_jemalloc         ns more than jemalloc's, median of over_jemalloc_ns
    over_jemalloc_ns      ns more than jemalloc's of the same round, one a round
  micro_scaling           of each build, what a second thread brings:
    ratio                 tidemark's ÷ jemalloc's, median of ratios
    ratios                one a round
  write_back              a row for each process under tidemark:
    process               idle or busy
    bytes_per_minute      bytes written to disk a minute
    region_bytes          bytes of its region's file

Status: 0, 1 when a measurement failed, 2 when nothing can be measured as asked; 130 or 143 when Ctrl-C or SIGTERM ended it."""


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def rounds(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text}: at least 1")
    return number


def library(text):
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    return os.path.abspath(text)


def scale(text):
    number = float(text)
    if not math.isfinite(number) or number <= 0:
        raise argparse.ArgumentTypeError(f"{text}: a number above 0")
    return number


def names(known):
    """Reads names of those known, by comma."""
    def read(text):
        wanted = [name.strip() for name in text.split(",") if name.strip()]
        unknown = [name for name in wanted if name not in known]
        if unknown or not wanted:
            raise argparse.ArgumentTypeError(f"{'unknown: ' + ', '.join(unknown) if unknown else 'no name'}; there are {', '.join(known)}")
        return wanted
    return read


def json_file(path):
    """Creates nothing: a file that this makes is removed, until there is something to write."""
    if path != "-":
        try:
            check_writable(path)
        except OSError as error:
            raise argparse.ArgumentTypeError(f"cannot write {path}: {error.strerror}") from None
    return path


def check_writable(path):
    there = os.path.exists(path)
    if there and not os.path.isfile(path) and not os.path.isdir(path):
        flags = os.O_WRONLY | os.O_NONBLOCK   # a pipe that nobody reads must not hold us up
    else:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    os.close(os.open(path, flags, 0o666))
    if not there:
        os.remove(os.path.realpath(path))   # a link stays


def arguments(about):
    """The options, and the lock of the cache as `lock`: who holds it keeps the lock."""
    parser = Parser(prog="scripts/bench", description=about, epilog=JSON, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--library", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--programs", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--cache", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--memray", default="", help=argparse.SUPPRESS)
    parser.add_argument("--lock", type=int, help=argparse.SUPPRESS)   # a descriptor of the lock's file that the caller keeps
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)   # only check the options and take the lock
    known_tools = [t.name for t in tools.all_tools("", "")]
    known_workloads = [w.name for w in BATCH + SERVERS] + ["micro", "write-back"]
    parser.add_argument("--rounds", type=rounds, default=5, help="rounds (default 5)")
    parser.add_argument("--scale", type=scale, default=1, help="size of each workload (default 1: one to a few seconds)")
    parser.add_argument("--tools", metavar="NAMES", type=names(known_tools), help=f"only these, by comma; glibc always: {', '.join(known_tools)}")
    parser.add_argument("--other", metavar="FILE", type=library, help="another build of libtidemark.so, in turns with this one: what a change costs")
    parser.add_argument("--workloads", metavar="NAMES", type=names(known_workloads), help="only these, by comma; micro are the micro-benchmarks, "
                        f"write-back what a minute writes to the disk: {', '.join(known_workloads)}")
    parser.add_argument("--json", metavar="FILE", type=json_file,
                        help="all figures, for machines; - for standard output, and the table on standard error")
    chosen = parser.parse_args()
    chosen.library = os.path.abspath(chosen.library)
    try:
        chosen.lock = locked(chosen.cache, chosen.lock)
    except BlockingIOError:
        parser.error(f"another run uses {chosen.cache}: two at once would give wrong figures")
    except OSError as error:
        parser.error(f"cannot lock {chosen.cache}: {error.strerror}")
    return chosen


def locked(cache, descriptor):
    """The files of the cache are made anew by each run, and two runs would slow each other."""
    if descriptor is None:
        os.makedirs(cache, exist_ok=True)
        descriptor = os.open(os.path.join(cache, "lock"), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return descriptor
