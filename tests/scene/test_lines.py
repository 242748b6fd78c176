import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from affetto.conditioning.track import EmotionTrack
from affetto.runtime.errors import InvalidInputError, TryAgainError, UsageError
from affetto.scene.lines import sentence_times, sentences, speak, suggested
from affetto.scene.model import Reply, Spoken
from affetto.scene.reply import answer


def test_a_text_is_cut_at_its_sentences_and_nowhere_else():
    assert sentences("Hello there. It costs 3.50! Really?\nYes") == [
        "Hello there.",
        "It costs 3.50!",
        "Really?",
        "Yes",
    ]
    assert sentences("...") == []


def test_sentences_without_known_phones_share_the_time_by_their_letters():
    found = sentence_times("One two. Three four five six.", 6.0, None)
    assert found[0][0] == 0.0
    assert found[-1][1] == pytest.approx(6.0)
    assert found[0][1] == found[1][0] == pytest.approx(6.0 * 6 / 22)


def test_an_emotion_is_suggested_for_each_sentence():
    text = "I am so happy! But then I lost everything and I am sad."
    track = suggested(text, sentence_times(text, 8.0, None))
    assert track.at(1.0).effective_vad()[0] > 0.3
    assert track.at(7.5).effective_vad()[0] < -0.1


@pytest.mark.parametrize(
    ("words", "feeling"),
    [
        ("I lost my dog and I cannot stop crying.", -1),
        ("I got the job, I am so happy!", 1),
    ],
)
def test_a_template_answers_in_a_fitting_tone(words, feeling):
    found = answer(Reply(to=words))
    assert EmotionTrack.parse(found.felt).keyframes[0].emotion.vad[0] * feeling > 0
    first = EmotionTrack.parse(found.emotion).at(0.0)
    assert first.effective_vad()[0] * feeling > 0
    assert found == answer(Reply(to=words))
    assert found.source == "template"


class FakeModel(BaseHTTPRequestHandler):
    content = json.dumps({"emotion": "0:sad@0.3; 1:calm@0.6", "text": "I am here."})
    seen = None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        type(self).seen = {"path": self.path, "body": body, "key": self.headers.get("Authorization")}
        raw = json.dumps({"choices": [{"message": {"content": self.content}}]}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(raw)

    def log_message(self, *_arguments):
        pass


@pytest.fixture
def endpoint():
    server = HTTPServer(("127.0.0.1", 0), FakeModel)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    server.server_close()


def test_an_endpoint_of_the_users_own_gives_words_and_emotion(endpoint, monkeypatch):
    monkeypatch.setenv("MY_KEY", "secret")
    found = answer(Reply(to="I am sad.", endpoint=endpoint, model="small", key_variable="MY_KEY"))
    assert (found.text, found.emotion) == ("I am here.", "0:sad@0.3; 1:calm@0.6")
    assert FakeModel.seen["path"] == "/v1/chat/completions"
    assert FakeModel.seen["key"] == "Bearer secret"
    assert "I am sad." in FakeModel.seen["body"]["messages"][1]["content"]
    with pytest.raises(UsageError, match="NO_SUCH_KEY"):
        answer(Reply(to="hi", endpoint=endpoint, model="small", key_variable="NO_SUCH_KEY"))


def test_plain_words_and_unknown_emotions_of_an_endpoint_are_taken_with_care(endpoint, monkeypatch):
    monkeypatch.setattr(FakeModel, "content", "Just words.")
    assert answer(Reply(to="I am sad.", endpoint=endpoint, model="m")).text == "Just words."
    monkeypatch.setattr(FakeModel, "content", '{"emotion": "flurbish", "text": "Hm."}')
    EmotionTrack.parse(answer(Reply(to="I am sad.", endpoint=endpoint, model="m")).emotion)
    monkeypatch.setattr(FakeModel, "content", "")
    with pytest.raises(InvalidInputError, match="without text"):
        answer(Reply(to="I am sad.", endpoint=endpoint, model="m"))


def test_an_endpoint_that_is_not_there_is_worth_another_try():
    with pytest.raises(TryAgainError, match="does not answer"):
        answer(Reply(to="hi", endpoint="http://127.0.0.1:9/v1", model="m", timeout_s=2.0))


def test_the_same_text_always_sounds_the_same():
    pytest.importorskip("espeakng_loader")
    first, second = (speak("One.", "en-us", Spoken()) for _ in range(2))
    assert first.samples.tobytes() == second.samples.tobytes()
    with pytest.raises(InvalidInputError, match="no words"):
        speak("...", "en-us", Spoken())
