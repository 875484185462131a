"""ffmpeg: many threads, aligned blocks, a generated source, checksums of the encoded packets as output."""
import real


class Ffmpeg(real.RealProgram):
    NEEDS = ("ffmpeg",)

    def test_transcode(self):
        command = ["ffmpeg", "-hide_banner", "-nostdin", "-loglevel", "error",
                   "-f", "lavfi", "-i", "testsrc2=duration=4:size=320x240:rate=25",
                   "-f", "lavfi", "-i", "sine=frequency=440:duration=4",
                   "-vf", "scale=176:144,hue=s=0", "-c:v", "mpeg4", "-threads", "4", "-c:a", "aac", "-flags", "+bitexact",
                   "-fflags", "+bitexact", "-f", "framemd5", "-"]
        reports = self.both(lambda launcher: launcher.run(command))
        self.assert_sensible(self.of(reports, "ffmpeg")[0], allocations=5000)
