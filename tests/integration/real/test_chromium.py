"""chromium headless: brings its own malloc in the executable, so its heap is not seen; the report must say so."""
import os

import real

PAGE = """<!doctype html><title>t</title><ul id="list"></ul>
<script>for (let i = 0; i < 500; i++) { let x = document.createElement('li'); x.textContent = 'item ' + i * i; list.append(x); }
document.title = 'items: ' + list.children.length;</script>"""


class Chromium(real.RealProgram):
    NEEDS = ("chromium",)

    def load(self, launcher):
        folder = self.new_folder()
        page = os.path.join(folder, "page.html")
        with open(page, "w") as file:
            file.write(PAGE)
        status, out, _ = launcher.run([
            "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run",
            "--disable-component-update", "--disable-default-apps", "--disable-sync", "--disable-extensions",
            "--proxy-server=127.0.0.1:9", f"--user-data-dir={folder}/profile", "--dump-dom", f"file://{page}"],
            env={"HOME": folder})
        self.assertIn(b"item 249001", out)
        return status, out

    def test_dump_dom(self):
        reports = self.of(self.both(self.load), "chromium")
        # /usr/bin/chromium is a shell script of that name, which executes the browser.
        reports = [report for report in reports if os.path.basename(report.process["exe"]) == "chromium"]
        self.assertTrue(reports)
        for report in reports:
            self.assertEqual([], report.contradictions())
        for report in reports:
            self.assertTrue(report.process["foreign_heap"], "the report does not say that the heap is not seen")
