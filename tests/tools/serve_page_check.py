#!/usr/bin/env python3
"""The chat page that `stamp serve` has at "/", in Chromium."""
import json
import re
import unittest

from playwright.sync_api import expect, sync_playwright

from program import ProgramTest
from server import SMOLLM2, Server

PHONE = {"width": 360, "height": 640}
expect.set_options(timeout=30_000)


class Page(ProgramTest):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # The counting model says the letters behind the last one of the prompt.
        cls.server = Server(cls.counting, "--api-key", "sesame")
        cls.addClassCleanup(cls.server.stop)
        cls.real = Server(SMOLLM2)
        cls.addClassCleanup(cls.real.stop)
        playwright = sync_playwright().start()
        cls.addClassCleanup(playwright.stop)
        cls.browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        cls.addClassCleanup(cls.browser.close)

    def open(self, server=None, **options):
        context = self.browser.new_context(**options)
        self.addCleanup(context.close)
        page = context.new_page()
        self.complaints = []
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        page.goto((server or self.real).url + "/")
        return page

    @staticmethod
    def field(page):
        return page.get_by_role("textbox", name="Message")

    @staticmethod
    def set(page, **values):
        page.get_by_role("button", name="Settings").click()
        for label, value in values.items():
            page.get_by_label(label.replace("_", " "), exact=True).fill(value)
        page.get_by_role("button", name="Done").click()

    def ask(self, page, text):
        self.field(page).fill(text)
        self.field(page).press("Enter")

    @staticmethod
    def answers(page):
        return page.locator("article.assistant")

    def finished(self, page, count=1):
        expect(page.get_by_role("log")).to_have_attribute("aria-busy", "false", timeout=60_000)
        expect(page.get_by_role("status")).to_have_text("The answer is complete")
        expect(self.answers(page)).to_have_count(count)
        return self.answers(page).last.locator(".body").inner_text()

    def test_it_is_served_with_a_strict_policy(self):
        answer = self.real.get("/")
        self.assertEqual(answer.status_code, 200)
        self.assertTrue(answer.headers["content-type"].startswith("text/html"))
        policy = answer.headers["content-security-policy"]
        self.assertIn("default-src 'none'", policy)
        self.assertNotIn("unsafe", policy)
        page = self.open()
        expect(page.get_by_role("textbox", name="Message")).to_be_focused()
        page.evaluate("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.injected = 1'}))")
        self.assertIsNone(page.evaluate("window.injected ?? null"))
        self.assertTrue(any("Content Security Policy" in text or "Content-Security-Policy" in text for text in self.complaints))

    def test_an_answer_streams_in_and_the_conversation_goes_on(self):
        page = self.open()
        expect(page.locator("#model")).to_have_text("SmolLM2-135M-Instruct")
        self.set(page, Temperature="0", Max_tokens="300")  # enough to see it being written
        self.ask(page, "Count from 1 to 20.")
        expect(page.locator("article.writing .body")).to_have_text(re.compile(r"\S"))
        first = self.finished(page)
        self.assertTrue(first.strip())
        self.assertRegex(self.answers(page).last.inner_text(), r"\d+\.\d tokens/s · \d+ tokens")
        self.ask(page, "And then?")
        self.finished(page, 2)
        page.reload()
        expect(self.answers(page)).to_have_count(2)
        self.assertEqual(self.answers(page).first.locator(".body").inner_text(), first)
        self.assertEqual(self.complaints, [])

    def test_the_settings_go_into_the_request(self):
        page = self.open()
        self.set(page, System_prompt="Be brief.", Temperature="0.5", Top_p="0.9", Max_tokens="5", Seed="7")
        with page.expect_request("**/v1/chat/completions") as sent:
            self.ask(page, "Hello")
        body = json.loads(sent.value.post_data)
        self.assertEqual(body["messages"], [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}])
        self.assertEqual({k: body[k] for k in ("temperature", "top_p", "max_tokens", "seed", "stream")},
                         {"temperature": 0.5, "top_p": 0.9, "max_tokens": 5, "seed": 7, "stream": True})
        first = self.finished(page)
        self.answers(page).last.get_by_role("button", name="Regenerate").click()
        self.assertEqual(self.finished(page), first)  # the same seed

    def test_escape_stops_and_keeps_what_there_is(self):
        page = self.open()
        self.set(page, Temperature="0")
        self.ask(page, "Write a very long story about a ship.")
        expect(page.locator("article.writing .body")).to_have_text(re.compile(r"[\s\S]{20}"))
        expect(page.get_by_role("button", name="Stop")).to_be_visible()
        page.keyboard.press("Escape")
        expect(page.get_by_role("status")).to_have_text("Stopped")
        expect(self.answers(page).last).to_contain_text("Stopped")
        self.assertGreater(len(self.answers(page).last.locator(".body").inner_text()), 20)
        expect(page.get_by_role("button", name="Send")).to_be_visible()
        expect(self.field(page)).to_be_focused()

    def test_editing_a_message_asks_again_from_there(self):
        page = self.open()
        self.set(page, Temperature="0", Max_tokens="8")
        self.ask(page, "One")
        self.finished(page)
        self.ask(page, "Two")
        self.finished(page, 2)
        page.locator("article.user").first.hover()
        page.locator("article.user").first.get_by_role("button", name="Edit").click()
        editor = page.get_by_role("textbox", name="Edit your message")
        expect(editor).to_be_focused()
        editor.fill("Three")
        with page.expect_request("**/v1/chat/completions") as sent:
            editor.press("Enter")
        self.assertEqual(json.loads(sent.value.post_data)["messages"], [{"role": "user", "content": "Three"}])
        self.finished(page, 1)
        self.answers(page).last.get_by_role("button", name="Edit").click()
        answer = page.get_by_role("textbox", name="Edit the answer")
        answer.fill("My own **words** and <b>no tags</b>")
        page.get_by_role("button", name="Save").click()
        expect(self.answers(page).last.locator("strong")).to_have_text("words")
        expect(self.answers(page).last.locator(".body b")).to_have_count(0)

    def test_errors_are_shown_and_an_api_key_helps(self):
        page = self.open(self.server)
        self.ask(page, "a")
        expect(page.get_by_role("alert")).to_contain_text("This server needs a valid API key.")
        page.get_by_role("button", name="Enter an API key").click()
        expect(page.get_by_label("API key", exact=True)).to_be_focused()
        page.get_by_label("API key", exact=True).fill("sesame")
        page.get_by_role("button", name="Done").click()
        expect(page.locator("#model")).to_have_text("counting")
        self.set(page, Max_tokens="4")
        page.get_by_role("button", name="Try again").click()
        self.finished(page)
        self.assertIsNone(page.evaluate("Object.values(localStorage).find(v => v.includes('sesame')) ?? null"))

    def test_a_server_that_is_gone(self):
        server = Server(self.counting)
        page = self.open(server)
        server.stop()
        self.ask(page, "Hello")
        expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached.")

    def test_markdown_is_made_of_elements_and_text(self):
        page = self.open()
        source = "# Title\n\nA **bold** `x < 1` [link](https://example.org) [bad](javascript:alert(1))\n\n- one\n- two\n\n```c\nint <a>;\n```\n<img src=x onerror=alert(1)>"
        page.evaluate("text => { messages.push({role: 'assistant', content: text}); renderAll(); }", source)
        body = page.locator("article .body")
        expect(body.locator("h3")).to_have_text("Title")
        expect(body.locator("p code")).to_have_text("x < 1")
        expect(body.locator("a")).to_have_count(1)
        expect(body.locator("a")).to_have_attribute("href", "https://example.org")
        expect(body.locator("li")).to_have_text(["one", "two"])
        expect(body.locator("pre")).to_have_text("int <a>;")
        expect(body.locator("img")).to_have_count(0)

    def test_narrow_screens_and_both_themes(self):
        for scheme, other in (("light", "dark"), ("dark", "light")):
            page = self.open(viewport=PHONE, color_scheme=scheme)
            self.assertEqual(page.evaluate("document.documentElement.dataset.theme"), scheme)
            page.evaluate("messages.push({role: 'user', content: 'w'.repeat(300)}, {role: 'assistant', content: '```\\n' + 'x'.repeat(300) + '\\n```'}); renderAll()")
            self.assertLessEqual(page.evaluate("document.documentElement.scrollWidth"), PHONE["width"])
            page.get_by_role("button", name="Dark theme").click()
            page.reload()
            self.assertEqual(page.evaluate("document.documentElement.dataset.theme"), other)
            self.assertEqual(self.complaints, [])

    def test_the_keyboard_reaches_everything(self):
        page = self.open()
        self.field(page).fill("draft")
        self.field(page).press("Shift+Enter")
        self.assertEqual(self.field(page).input_value(), "draft\n")
        page.evaluate("document.activeElement.blur()")
        names = []
        for _ in range(9):
            page.keyboard.press("Tab")
            names.append(page.evaluate("(e => e.labels?.[0]?.textContent ?? e.getAttribute('aria-label') ?? e.textContent)(document.activeElement)"))
        for name in ("Dark theme", "Settings", "Why is the sky blue?", "Message", "Send"):
            self.assertIn(name, names)
        # Every control has a name, every field a label.
        unnamed = page.evaluate("[...document.querySelectorAll('button, input, textarea')].filter(e => !e.getAttribute('aria-label') && !e.labels?.length && !e.textContent.trim()).map(e => e.outerHTML)")
        self.assertEqual(unnamed, [])


if __name__ == "__main__":
    unittest.main()
