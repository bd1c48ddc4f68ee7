// Warns two minutes before the session ends, offers to stay signed in, and leaves when it has ended.
//
// It needs a <dialog id="ending" data-left="URL" data-after="URL"> with a form in it, whose action
// renews the session. What data-left answers, {"signed_in": true, "seconds": 118}, must come from a
// passive request, or asking would keep the session alive. Where nobody is signed in, leave the
// dialog out of the page.
(() => {
  const WARNING = 120; // seconds before the end
  const OFTEN = 10; // seconds between questions while the warning is shown: another tab may stay
  const SELDOM = 300; // and at most at other times: a sign-out elsewhere is noticed, too

  const dialog = document.getElementById("ending");
  if (!dialog) return;
  const form = dialog.querySelector("form");
  const output = dialog.querySelector("output");
  let timer;

  const again = (seconds) => {
    clearTimeout(timer);
    timer = setTimeout(ask, seconds * 1000);
  };

  const show = (left) => {
    if (!left.signed_in) {
      location.assign(dialog.dataset.after);
    } else if (left.seconds > WARNING) {
      dialog.close();
      again(Math.min(left.seconds - WARNING, SELDOM));
    } else {
      const minutes = Math.ceil(left.seconds / 60);
      output.textContent = minutes > 1 ? `${minutes} minutes` : "one minute";
      if (!dialog.open) dialog.showModal();
      again(Math.min(left.seconds, OFTEN) + 0.2);
    }
  };

  const ask = async () => {
    try {
      const answer = await fetch(dialog.dataset.left, { cache: "no-store" });
      if (!answer.ok) throw new Error(answer.statusText);
      show(await answer.json());
    } catch {
      again(OFTEN); // an outage is not an end
    }
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      await fetch(form.action, { method: "POST", body: new FormData(form) });
    } finally {
      await ask();
    }
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) ask(); // timers sleep while the computer does
  });
  ask();
})();
