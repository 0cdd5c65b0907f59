#!/usr/bin/env python3
"""`stamp` on a terminal: the chat with its commands, line editing and Ctrl-C, and the progress bar."""
import json
import re
import subprocess
import time
import unittest

import pexpect

from program import AFTER_A, STAMP, ProgramTest, environment, stamp

UP, CTRL_A, CTRL_C, CTRL_D = "\x1b[A", "\x01", "\x03", "\x04"
ENDLESS = "0"  # what the counting model answers with digits for ever


class Terminal(ProgramTest):
    def start(self, *arguments, **env):
        """The program on a pseudo-terminal; ended with the test."""
        child = pexpect.spawn(STAMP, list(map(str, arguments)), env=environment(TERM="xterm", **env), encoding="utf-8",
                              timeout=30, dimensions=(24, 100))
        self.addCleanup(child.close, force=True)
        return child


class Chat(Terminal):
    """On the counting model: an answer goes on from the last letter of the message, "a" gives "bcd" to "z"."""

    def chat(self, *arguments):
        child = self.start("chat", "--model", self.counting, *arguments)
        child.expect_exact("/help lists the commands.")
        child.expect_exact("> ")
        return child

    def ask(self, child, line, answer):
        """Sends a line and expects the answer and then the prompt."""
        child.sendline(line)
        child.expect_exact(answer)
        child.expect_exact("> ")

    def saved(self, child):
        file = self.dir / "saved.json"
        self.ask(child, f"/save {file}", f"messages in {file}")
        return [(message["role"], message["content"]) for message in json.loads(file.read_text())]

    def leave(self, child, keys):
        child.send(keys)
        child.expect(pexpect.EOF)
        child.close()
        self.assertEqual((child.exitstatus, child.signalstatus), (0, None))

    def test_a_conversation(self):
        child = self.chat()
        self.ask(child, "say a", AFTER_A)
        self.ask(child, "and x", "yz")
        self.assertEqual(self.saved(child), [("user", "say a"), ("assistant", AFTER_A), ("user", "and x"), ("assistant", "yz")])
        self.leave(child, "/exit\r")

    def test_end_of_input_leaves(self):
        child = self.chat()
        self.ask(child, "say x", "yz")
        self.leave(child, CTRL_D)

    def test_help_lists_the_commands(self):
        child = self.chat()
        child.sendline("/help")
        for command in ("/help", "/clear", "/regen", "/system", "/save", "/exit"):
            child.expect_exact(command + " ")
        child.expect_exact("Ctrl-C")
        child.expect_exact("> ")
        self.leave(child, "/exit\r")

    def test_clear_forgets_all_but_the_system_message(self):
        child = self.chat("--system", "Be brief.")
        self.ask(child, "say x", "yz")
        self.ask(child, "/clear", "\n")
        self.ask(child, "say w", "xyz")
        self.assertEqual(self.saved(child), [("system", "Be brief."), ("user", "say w"), ("assistant", "xyz")])
        self.leave(child, "/exit\r")

    def test_system_begins_anew(self):
        child = self.chat()
        self.ask(child, "say x", "yz")
        self.ask(child, "/system Be loud.", "\n")
        self.assertEqual(self.saved(child), [("system", "Be loud.")])
        self.ask(child, "say w", "xyz")
        self.ask(child, "/system", "\n")
        self.assertEqual(self.saved(child), [])
        self.leave(child, "/exit\r")

    def test_regen_answers_again(self):
        child = self.chat()
        self.ask(child, "/regen", "no message to answer again")
        self.ask(child, "say x", "yz")
        self.ask(child, "/regen", "yz")
        self.assertEqual(self.saved(child), [("user", "say x"), ("assistant", "yz")])
        self.leave(child, "/exit\r")

    def test_regen_takes_another_seed(self):
        child = self.start("chat", "--model", self.random, "--temp", "1", "--max-tokens", "12")
        child.expect_exact("> ")
        answers = []
        for line in ("Hello", "/regen"):
            child.sendline(line)
            child.expect_exact(line)
            child.expect_exact("> ")
            answers.append(self.saved(child)[1][1])
        self.assertNotEqual(*answers)
        self.leave(child, "/exit\r")

    def test_mistakes_do_not_end_it(self):
        child = self.chat()
        self.ask(child, "/frobnicate", "/frobnicate is no command; /help lists them")
        self.ask(child, "/save", "/save needs a file name")
        self.ask(child, f"/save {self.dir}/absent/x.json", "cannot be written")
        self.ask(child, "", "")
        self.ask(child, "say x", "yz")
        self.leave(child, "/exit\r")

    def test_a_message_too_long_is_taken_back(self):
        child = self.chat("--ctx", "40")
        self.ask(child, "many words " * 5, "do not fit the context of 40")
        self.ask(child, "say x", "yz")
        self.assertEqual(self.saved(child), [("user", "say x"), ("assistant", "yz")])
        self.leave(child, "/exit\r")

    def test_a_full_context_is_told(self):
        child = self.chat("--ctx", "64")
        self.ask(child, ENDLESS, "the context of 64 tokens is full")
        self.leave(child, "/exit\r")

    def test_history_and_line_editing(self):
        child = self.chat()
        self.ask(child, "first x", "yz")
        self.ask(child, "second w", "xyz")
        child.send(UP + UP)
        child.expect_exact("first x")
        child.send("\r")
        child.expect_exact("> ")
        child.send("ay x" + CTRL_A + "s\r")  # typed at the line's beginning
        child.expect_exact("> ")
        self.assertEqual([text for role, text in self.saved(child) if role == "user"], ["first x", "second w", "first x", "say x"])
        self.leave(child, "/exit\r")

    def test_a_line_continues_after_a_backslash(self):
        child = self.chat()
        child.sendline("one\\")
        child.expect_exact("> ")
        self.ask(child, "two x", "yz")
        self.assertEqual(self.saved(child)[0], ("user", "one\ntwo x"))
        self.leave(child, "/exit\r")

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        child = self.chat("--ctx", "2000000")
        for _ in range(3):  # every time, not only the first
            child.sendline(ENDLESS)
            child.expect_exact("1234567890123456789")
            child.send(CTRL_C)
            child.expect_exact("\n> ")
            self.assertTrue(child.isalive())
        role, text = self.saved(child)[-1]
        self.assertEqual(role, "assistant")
        self.assertRegex(text, r"\A12345678901234567[0-9]*\Z")  # what was said is kept
        self.ask(child, "/clear", "\n")
        self.ask(child, "say x", "yz")
        self.leave(child, "/exit\r")

    def test_ctrl_c_at_the_prompt_drops_the_line(self):
        child = self.chat()
        child.send("half a line")
        child.expect_exact("half a line")
        child.send(CTRL_C)
        child.expect_exact("> ")
        self.assertTrue(child.isalive())
        self.ask(child, "say x", "yz")
        self.assertEqual(self.saved(child), [("user", "say x"), ("assistant", "yz")])
        self.leave(child, "/exit\r")

    def test_statistics_show_that_the_conversation_is_reused(self):
        child = self.chat("--stats")
        child.sendline("say x")
        child.expect(r"prompt (\d+) tokens, first")
        child.expect_exact("> ")
        child.sendline("say w")
        child.expect(r"prompt (\d+) tokens \((\d+) reused\)")
        total, reused = map(int, child.match.groups())
        self.assertGreater(reused, total // 2 - 2)
        self.leave(child, "/exit\r")

    def test_without_a_terminal_the_answers_alone_are_on_stdout(self):
        file = self.dir / "piped.json"
        result = stamp("chat", "--model", self.counting, stdin=f"say x\nsay w\n/save {file}\nlast a")
        self.assertEqual((result.returncode, result.stdout), (0, f"yz\nxyz\n{AFTER_A}\n"))
        self.assertEqual(result.stderr, f"4 messages in {file}\n")
        self.assertEqual(len(json.loads(file.read_text())), 4)


class Progress(Terminal):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.text = cls.dir / "long.txt"
        cls.text.write_text("One line of a text that goes on and on.\n" * 100_000)

    def command(self):
        return ["perplexity", "--model", self.random, "--file", self.text, "--context", "256", "--threads", "1"]

    def first_line(self, command):
        """On stderr, where that is no terminal."""
        with subprocess.Popen([STAMP, *map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True, env=environment()) as process:
            line = process.stderr.readline()
            process.kill()
            self.assertEqual(process.stdout.read(), "")
        return line

    def test_a_bar_with_the_time_left_on_a_terminal(self):
        child = self.start(*self.command())
        began = time.monotonic()
        child.expect(r"\r\x1b\[Kperplexity \[#*\.*\] +\d+ % +[\d:]+( s)? left +ppl \d+\.\d{4}")
        self.assertGreater(time.monotonic() - began, 1.9)  # nothing shows before two seconds
        self.assertLessEqual(len(re.sub(r"\r\x1b\[K", "", child.after)), 100)  # one line of this terminal
        child.expect(r"\r\x1b\[Kperplexity \[")  # drawn again in place

    def test_plain_lines_elsewhere(self):
        self.assertRegex(self.first_line(self.command()), r"\Aperplexity: \d+/\d+, [\d:]+( s)? left, ppl \d+\.\d{4}\n\Z")

    def prefill(self):
        file = self.dir / "prompt.txt"
        file.write_text("One line of a prompt that is long.\n" * 3000 + "w")
        return ["generate", "--model", self.random, "--ctx", "200000", "-f", file, "--threads", "1"]

    def test_a_bar_for_the_prefill(self):
        child = self.start(*self.prefill())
        child.expect(r"prefill \[#*\.*\] +\d+ % +[\d:]+( s)? left")

    def test_the_prefill_s_time_left_knows_that_later_tokens_meet_more_keys(self):
        line = self.first_line(self.prefill())
        done, total, minutes, seconds = re.fullmatch(r"prefill: (\d+)/(\d+), (?:(\d+):)?(\d+)(?: s)? left\n", line).groups("0")
        # It was written after two seconds; by attention alone their squares would be as the times.
        self.assertGreater(60 * int(minutes) + int(seconds), 1.5 * 2 * (int(total) / int(done) - 1))

    def test_statistics_come_unasked_on_a_terminal(self):
        child = self.start("generate", "--model", self.counting, "-p", "x")
        child.expect_exact("yz\r\n")
        child.expect(r"load [\d.]+ s \| prompt 2 tokens")
        child.expect(pexpect.EOF)
        self.assertNotIn("prefill", child.before)


if __name__ == "__main__":
    unittest.main()
