// Points out one trial everywhere: under the pointer, or the one that was clicked. Without it the page is the same picture.
const reading = document.getElementById('reading'), silent = reading.textContent;
const numberOf = (element) => element.closest('[id*="-trial-"]')?.id.split('-trial-')[1] ?? '';
let kept = '';
for (const path of document.querySelectorAll('svg [id*="-trial-"] > path')) {
  const reach = path.cloneNode(); // a line is thin, a finger is not
  reach.removeAttribute('style');
  reach.setAttribute('class', 'reach');
  path.after(reach);
}
function show(number) {
  document.body.classList.toggle('picking', number !== '');
  for (const element of document.querySelectorAll('[id*="-trial-"]')) {
    element.classList.toggle('on', number !== '' && numberOf(element) === number);
  }
  reading.textContent = document.getElementById(`about-trial-${number}`)?.dataset.about ?? silent;
}
document.addEventListener('pointerover', (event) => show(numberOf(event.target) || kept));
document.addEventListener('click', (event) => {
  const number = numberOf(event.target);
  kept = number === kept ? '' : number;
  show(kept);
});
