// Inputs with `data-suggestions` suggest what that address knows of the text in them. Without script they take numbers.
'use strict';
{
    const PAUSE = 200; // milliseconds without a key before the address is asked
    const start = () => {
        for (const input of document.querySelectorAll('input[data-suggestions]')) {
            const list = input.list;
            let timer = null;
            let asked = null;
            input.addEventListener('input', () => {
                clearTimeout(timer);
                timer = setTimeout(async () => {
                    asked?.abort();
                    asked = new AbortController();
                    const address = `${input.dataset.suggestions}?q=${encodeURIComponent(input.value)}`;
                    try {
                        const answer = await fetch(address, {signal: asked.signal, credentials: 'same-origin'});
                        if (!answer.ok) {
                            return;
                        }
                        const options = (await answer.json()).results.map((one) => new Option(one.name, one.id));
                        list.replaceChildren(...options);
                    } catch (error) {
                        if (error.name !== 'AbortError') {
                            throw error;
                        }
                    }
                }, PAUSE);
            });
        }
    };
    // The form's scripts are in the page's head, before its inputs.
    if (document.readyState === 'loading') {
        document.addEventListener('DOMContentLoaded', start);
    } else {
        start();
    }
}
